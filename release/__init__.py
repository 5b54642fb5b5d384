"""Making a release: the version in every place, the notes, what is built and its checksums."""
