"""What people look at: the report, a page to mail, and the gallery, pages to choose from."""
