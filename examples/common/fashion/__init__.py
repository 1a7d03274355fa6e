"""What belongs to Fashion-MNIST: the images, the trainings of fashion_dfa.py, their figures."""
