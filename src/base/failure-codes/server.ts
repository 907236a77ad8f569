/** Failure codes 11xx: server and connection. */
import { entry } from './entry.ts'

export const SERVER_CODES = entry({
  TM1101: {
    title: 'no server answers',
    manual:
      'No PostgreSQL server answered at the socket or the host and port of the connection. The ' +
      'message names it, and the servers that were found on this machine. Nothing was done.',
    exitStatus: 1,
  },
  TM1102: {
    title: 'the server does not let this role in',
    manual:
      'The password is wrong or missing, or pg_hba.conf has no line that lets this role in from ' +
      'here. Nothing was done.',
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
      'The server refused a statement that Tidemark needs because the role of the connection ' +
      'may not do it. The message names what was refused.',
    exitStatus: 1,
  },
  TM1106: {
    title: 'the connection to the server was lost',
    manual:
      'The server stopped, or ended the session. A backup under way is given up: the server ' +
      'ends backup mode with the session, and pages read afterwards could not be trusted.',
    exitStatus: 1,
  },
  TM1107: {
    title: 'a connection pooler stands between Tidemark and the server',
    manual:
      'Backup mode belongs to one server session. Behind a pooler that session may change ' +
      'without notice, so Tidemark refuses to work through one. Connect to the server itself.',
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
      'The server is of a later major version than any that this Tidemark was tested with. Use ' +
      'a newer Tidemark, or force it: then the rules of the newest known version are used.',
    exitStatus: 2,
  },
  TM1110: {
    title: 'the control file cannot be read whole',
    manual:
      'global/pg_control is missing, is not 8192 bytes, or its checksum did not hold during ten ' +
      'seconds of reading. It is never stored in that state. A control file that stays bad ' +
      'means a damaged cluster.',
    exitStatus: 1,
  },
  TM1111: {
    title: 'the control file is of an unknown version',
    manual:
      'The number of the format of global/pg_control is none that this Tidemark knows. The ' +
      'message names the number. Nothing was done.',
    exitStatus: 2,
  },
  TM1112: {
    title: 'the cluster has sizes that are not supported',
    manual:
      'The server was built with another block size than 8192 bytes, or runs on a big-endian ' +
      'machine. Nothing was done.',
    exitStatus: 2,
  },
  TM1113: {
    title: 'the server takes no connections now',
    manual:
      'The server is there, but starting up, shutting down, in recovery without hot_standby, or ' +
      'has no connection left. Nothing was done; try again.',
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
      'The connection asks for TLS, and the server offers none, or its certificate could not be ' +
      'verified. Nothing was sent.',
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
      'The text is not what PostgreSQL writes at the end of a base backup: it was cut, edited, ' +
      'or comes from a version that is not known.',
    exitStatus: 1,
  },
})
