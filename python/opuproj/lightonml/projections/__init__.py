"""The OPU as a transformer of scikit-learn (``sklearn``) and as a module of PyTorch (``torch``)."""
