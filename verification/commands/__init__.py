"""The commands of this floor; heavy imports wait until one is called."""
