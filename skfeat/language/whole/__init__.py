"""All MLPs of a language model replaced at once by sparse connections of features."""
