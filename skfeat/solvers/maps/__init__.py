"""Training of autoencoders and connectors of maps, whose weights positions share."""
