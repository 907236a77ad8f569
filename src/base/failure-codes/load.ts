/** Failure codes 2030 to 2059: loads. */
import { entry } from './entry.ts'

export const LOAD_CODES = entry({
  TM2030: {
    title: 'a dump cannot be loaded there',
    manual:
      'Before a load changes anything it looks at the dump and at the target: roles and ' +
      'tablespaces that are needed, whether the target is the database that was dumped, ' +
      'whether it is empty, its encoding, room for temporary files. All that stands against ' +
      'the load is told at once. Nothing was changed.',
    exitStatus: 1,
  },
  TM2031: {
    title: 'a dump, or a database in it, is not there',
    manual:
      'No repository that answers has a dump of this id, or the dump has no database of that ' +
      'name. With several databases in a dump, --database says which one is meant.',
    exitStatus: 1,
  },
  TM2032: {
    title: 'the dump has nothing of what is to be loaded',
    manual:
      'A schema, a table or a line of the list names what the object list of the dump does ' +
      'not have, or nothing fits all options together. Names are taken as they are: capitals ' +
      'count, and there are no patterns. Nothing was changed.',
    exitStatus: 1,
  },
  TM2033: {
    title: 'pg_restore cannot read the dump',
    manual:
      'The bytes of the dump are proved by their hashes, and still pg_restore does not read ' +
      'them. Its own message is given. `load --output` writes the file as pg_dump wrote it.',
    exitStatus: 1,
  },
  TM2034: {
    title: 'the server refused a statement of a load',
    manual:
      'The load ended at the first error. The message has the object, what the server said, ' +
      'and the statement. Without --single-transaction what was loaded before stays; the ' +
      'message says so.',
    exitStatus: 1,
  },
  TM2035: {
    title: 'a dump could not be read to its end while it was loaded',
    manual:
      'A part of the dump is damaged or missing, or the repository no longer answers. No byte ' +
      'of the damaged part was handed on, and the tool was killed at once. With --single- ' +
      'transaction nothing stays; without, what came before does.',
    exitStatus: 1,
  },
  TM2036: {
    title: 'the files of a dump cannot be written',
    manual:
      'What --output names is there already or cannot be written, or the temporary directory ' +
      'cannot be used that --jobs, --list and the directory format need. A file that exists ' +
      'is never overwritten.',
    exitStatus: 1,
  },
  TM2037: {
    title: 'a load was cut off',
    manual:
      'The server has gone, or the tool was killed. With --single-transaction nothing stays; ' +
      'without, what came before does.',
    exitStatus: 1,
  },
})
