"""The versions of one model in OSS: uploaded aside, copied into place on the server, complete or not there at all.

TensorFlow Serving tries a numeric directory the moment it appears, and one without ``variables/`` it even loads and
then fails every request. So the files of a version go to ``<prefix>.staging-<n>/``, which the server ignores, and are
copied from there: large ones by parts that stay invisible until all of them are there, then everything but
``saved_model.pb``, and that one last. The manifest, ``<prefix><n>.manifest.json``, is written when everything is in
place: a version with a manifest is complete and never changes. It names the stack that published the version; no other
one removes it.

An interrupted run leaves a staging prefix, and in it a manifest of what was to be published. The next run continues
from what OSS holds, on whichever machine it is, or cleans up if the version is wanted no longer.
"""
