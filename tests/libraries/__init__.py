"""The operator in other libraries: scikit-learn and dask."""
