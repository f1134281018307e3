<?php // The shop in PHP: it answers with its pid and with the version in its pool's configuration.
echo getmypid(), " ", getenv("VERSION"), "\n";
