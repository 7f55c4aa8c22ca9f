"""Files, manifests, bundles and the Hugging Face Hub."""
