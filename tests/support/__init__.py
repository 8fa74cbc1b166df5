"""What several tests need: stages, oracles, servers, terminals."""
