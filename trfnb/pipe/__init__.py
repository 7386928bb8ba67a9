"""What spaCy sees: the component, the architectures, the annotations."""
