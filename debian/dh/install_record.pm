# dh --with install-record, and what Build-Depends: dh-sequence-install-record turns on. Not a package of its own: dh's
# functions are there only in the one that loads this file.
use warnings;
use strict;

insert_before('dh_installdeb', 'dh_installrecord');

1;
