"""The one web application: REST of all features, and the portal's pages."""
