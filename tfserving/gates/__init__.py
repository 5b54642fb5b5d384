"""Gates: what a version has to prove before requests move to it.

``spec`` says what is demanded, ``golden`` reads files of requests and expected answers, ``fit`` compares those with a
signature before anything runs. ``which`` says which versions of a change must pass, ``trial`` tries one of them on a
service with the help of ``compare``, ``agreement`` and ``latency``, and ``report`` is what came of it.
"""
