"""Training, stage by stage: autoencoder, latents and neighbors, denoiser, gallery."""
