"""Training of autoencoders and the connectors between them, together."""
