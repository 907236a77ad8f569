/** Failure codes 20xx: dumps and loads. */
import { entry } from './entry.ts'

export const DUMP_CODES = entry({
  TM2001: {
    title: 'the client tools of PostgreSQL are missing or too old',
    manual:
      'A dump is written by pg_dump, and read by pg_restore and psql. They must be of the ' +
      'major version of the server or a later one: an older pg_dump does not know what it ' +
      'has. The message names the package that has them. Nothing was written.',
    exitStatus: 1,
  },
  TM2002: {
    title: 'a client tool of PostgreSQL has failed',
    manual:
      'pg_dump or pg_dumpall ended with an error; its own message is given. A dump exists ' +
      'only when every tool has ended well, so nothing is listed, and what was written so ' +
      'far was removed.',
    exitStatus: 1,
  },
  TM2003: {
    title: 'a client tool of PostgreSQL did not come to its end',
    manual:
      'The tool was ended by a signal (somebody, or the kernel when memory was short), or ' +
      'it could not be started at all. Nothing is listed, and what was written so far was ' +
      'removed.',
    exitStatus: 1,
  },
  TM2004: {
    title: "the dump's own session with the server was lost",
    manual:
      'While pg_dump runs, a session holds the snapshot that it reads, so that all of a ' +
      'database is of one moment. That session has ended: the server was stopped, an ' +
      'administrator ended it, or the network was cut. Nothing is listed. Run the dump ' +
      'again.',
    exitStatus: 1,
  },
  TM2005: {
    title: "an archive's table of contents cannot be read",
    manual:
      'What pg_dump wrote in the custom, directory or tar format does not read as such an ' +
      'archive. A dump without a list of its objects is not kept. A later pg_dump than ' +
      'those that Tidemark knows may write another version of the format.',
    exitStatus: 1,
  },
  TM2006: {
    title: 'the selection of a dump contradicts itself',
    manual:
      'Options of the selection exclude each other, as they do for pg_dump, or the tool ' +
      'that is there does not have one of them. Nothing was written.',
    exitStatus: 2,
  },
  TM2007: {
    title: 'a database that shall be dumped is not there',
    manual:
      'The server has no database of that name, or one that allows no connections. Names ' +
      'are as in pg_database: case counts, and there are no quotes. Nothing was written.',
    exitStatus: 1,
  },
  TM2008: {
    title: 'the directory that pg_dump wrote cannot be kept as it is',
    manual:
      'A dump in the directory format is written into a temporary directory first. That one ' +
      'could not be made, or what pg_dump left there is not what its table of contents ' +
      'names. Nothing is listed.',
    exitStatus: 1,
  },
})
