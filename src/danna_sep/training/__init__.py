"""Training: excerpts of songs, augmentation, losses. Modules of it import torch freely."""
