"""What is projected: arrays of any library, packed ternary batches, real numbers in digits."""
