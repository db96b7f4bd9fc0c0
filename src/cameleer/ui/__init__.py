"""What a person looks at and talks to. Reads run folders and models; imports no stage."""
