// Every family of the protocol: importing this file registers all kinds, so that a process can check whatever it is sent.

import './cluster.ts'
import './export.ts'
import './guest.ts'
import './handshake.ts'
import './migration.ts'
import './network.ts'
import './redirect.ts'
import './storage.ts'
import './volume.ts'
import './volume-check.ts'
import './volume-disks.ts'
import './volume-scrub.ts'
