"""Models that were trained elsewhere: those of Hugging Face, MDLM, tiny-diffusion; as denoisers of ours."""
