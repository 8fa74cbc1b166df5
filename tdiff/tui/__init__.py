"""The live view of `tdiff watch`: textual, and no torch. CONTRIBUTING.md says what is where."""
