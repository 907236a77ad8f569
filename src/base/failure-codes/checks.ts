/** Failure codes 17xx: checks. */
import { entry } from './entry.ts'

export const CHECKS_CODES = entry({
  TM1701: {
    title: 'check: the server answers',
    manual:
      'The server cannot be reached or its version is not supported. Checks that need it were ' +
      'left out; what is in the repository was looked at all the same.',
    exitStatus: 3,
  },
  TM1702: {
    title: 'check: the files here are those of the server',
    manual:
      'The connection of the cluster ends at another server than the one whose data directory ' +
      'is on this machine, or the data directory cannot be read. A backup would be refused.',
    exitStatus: 3,
  },
  TM1703: {
    title: 'check: wal_level',
    manual: 'With wal_level = minimal the WAL does not hold what recovery needs.',
    exitStatus: 3,
  },
  TM1704: {
    title: 'check: archive_mode',
    manual: 'The server hands over no WAL while archive_mode is off. Changing it needs a restart.',
    exitStatus: 3,
  },
  TM1705: {
    title: 'check: archive_command',
    manual:
      'The archive_command does not call `tidemark wal push` with this configuration and ' +
      'cluster. The message shows its present value and the statement that sets it.',
    exitStatus: 3,
  },
  TM1706: {
    title: 'check: the archiver',
    manual:
      'The last attempt of the server to archive a segment failed, or segments pile up in ' +
      'pg_wal. The server log says why; it holds what `wal push` printed.',
    exitStatus: 3,
  },
  TM1707: {
    title: 'check: full_page_writes and fsync',
    manual: 'A setting is off that the safety of the server itself rests on after a crash.',
    exitStatus: 3,
  },
  TM1708: {
    title: 'check: data checksums',
    manual:
      'Without data checksums a page that the disk changed is not noticed, neither by ' +
      'PostgreSQL nor by a backup.',
    exitStatus: 3,
  },
  TM1709: {
    title: 'check: settings that wait for a restart',
    manual: 'A setting was changed and takes effect at the next restart of the server only.',
    exitStatus: 3,
  },
  TM1710: {
    title: 'check: the repository',
    manual: 'The repository cannot be reached, or does not know the server.',
    exitStatus: 3,
  },
  TM1711: {
    title: 'check: the repository can be written to',
    manual: 'An object could not be begun in the repository.',
    exitStatus: 3,
  },
  TM1712: {
    title: 'check: free space of the repository',
    manual:
      'There is little room left: for the WAL that waits in pg_wal, or for another full backup.',
    exitStatus: 3,
  },
  TM1713: {
    title: 'check: the repository is on another device',
    manual:
      'The repository is on the disk of the data directory. When that disk fails, both are lost.',
    exitStatus: 3,
  },
  TM1714: {
    title: 'check: clocks agree',
    manual:
      'The clock of the server and that of this machine differ. Times as recovery targets mean ' +
      'the clock of the server.',
    exitStatus: 3,
  },
  TM1715: {
    title: 'check: permissions of the user of the server',
    manual:
      'archive_command runs as the owner of the data directory, who cannot reach the program, ' +
      'the configuration or the repository.',
    exitStatus: 3,
  },
  TM1716: {
    title: 'check: no hole in the WAL',
    manual:
      'A segment is missing between the oldest backup and the newest WAL. No moment after the ' +
      'hole can be recovered from a backup before it. Bring the segment with `tidemark wal push ' +
      'FILE`, or take a new backup now.',
    exitStatus: 3,
  },
  TM1717: {
    title: 'check: backups can be restored',
    manual:
      'A backup record is damaged, or a pack or a WAL segment that a backup needs is missing.',
    exitStatus: 3,
  },
  TM1718: {
    title: 'check: archived WAL is as it was written',
    manual:
      'An archived segment that a recovery would need first is damaged, or pg_resetwal has begun ' +
      'the WAL anew behind it.',
    exitStatus: 3,
  },
  TM1719: {
    title: 'check: WAL arrives (end-to-end proof)',
    manual:
      'The server was made to finish a WAL segment, and the segment did not appear in the ' +
      'repository in time, or could not be read back.',
    exitStatus: 3,
  },
  TM1720: {
    title: 'check: quarantine',
    manual:
      'WAL was refused and is kept in quarantine: two servers, or two histories of one server, ' +
      'archive under one name.',
    exitStatus: 3,
  },
  TM1721: {
    title: 'check: the newest WAL is there',
    manual:
      'The server has archived a segment, by its own account, that the repository does not ' +
      'hold. A gap at the end shows in no listing. Bring the segment with `tidemark wal push ' +
      'FILE`, or take a new backup now.',
    exitStatus: 3,
  },
})
