-- By which protocol a put came: 'ca', 'pva', or what a plugin calls its own way in. Not known ('') of puts from before.

ALTER TABLE attpc.puts ADD COLUMN protocol text NOT NULL DEFAULT '';
