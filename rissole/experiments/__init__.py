"""What the block denoiser is compared with, and how."""
