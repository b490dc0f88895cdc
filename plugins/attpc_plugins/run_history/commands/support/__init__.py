"""What the commands share: settings, filters, tables and output."""
