/** Failure codes 20xx: dumps and loads. */
import { entry } from './entry.ts'

export const DUMP_CODES = entry({
  TM2001: {
    title: 'the client tools of PostgreSQL are missing or too old',
    manual:
      'A dump is written by pg_dump, and read by pg_restore and psql. They must be of the major ' +
      'version of the server or a later one: an older pg_dump does not know what it has. The ' +
      'message names the package that has them. Nothing was written.',
    exitStatus: 1,
  },
})
