"""Who does the work: registry, repository, patient index, access control."""
