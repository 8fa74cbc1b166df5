"""Model families, their tokenizers, and models on disk."""
