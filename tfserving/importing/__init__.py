"""From what is there to a stack file: services, the model config file they read, and the versions in the bucket.

Everything here is about data that was read already; ``ops/import_command.py`` reads it.

1. :mod:`~tfserving.importing.start` says what a service starts and reads, from its service JSON.
2. :mod:`~tfserving.importing.place` says which bucket, key prefix and mount all of them share.
3. :mod:`~tfserving.importing.service` makes an entry of ``tf-serving:services`` of a service JSON, so exactly that the
   service JSON made of that entry is the same again; :mod:`~tfserving.importing.models` makes those of
   ``tf-serving:models`` of a model config file and of a listing.
4. :mod:`~tfserving.importing.text` writes the stack file.
"""
