"""Parts of the programs on Fashion-MNIST: the images, the trainings of fashion_dfa.py, their figures."""
