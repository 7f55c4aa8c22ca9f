"""Networks: the autoencoder and the block denoiser."""
