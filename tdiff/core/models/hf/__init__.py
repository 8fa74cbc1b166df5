"""Masked and causal language models of Hugging Face transformers."""
