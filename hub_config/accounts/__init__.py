"""Local accounts: who may sign in, how they ask for it, and the hub's authenticator."""
