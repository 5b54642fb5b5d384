"""Pure knowledge of TensorFlow Serving and PAI-EAS: no Pulumi, no cloud SDK, no I/O beyond files and the served API."""
