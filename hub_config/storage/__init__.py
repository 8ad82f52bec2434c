"""Where state is kept: the database, artifact files, the projects' git repositories."""
