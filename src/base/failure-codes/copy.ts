/** Failure codes 2080 to 2099: dumps of rows by COPY, and loading them. */
import { entry } from './entry.ts'

export const COPY_CODES = entry({
  TM2080: {
    title: 'there are no rows that COPY could dump',
    manual:
      'The table or a column of it is not there, what is named has no rows of its own (a ' +
      'sequence, an index), the query is not one SELECT, or it gives two columns of one name. ' +
      'Names are as SQL writes them: capitals need double quotes. Nothing was written.',
    exitStatus: 1,
  },
  TM2081: {
    title: 'options of a dump by COPY contradict each other',
    manual:
      'An option is not for this format, has a value that COPY does not take, or would make ' +
      'rows that cannot be read again as they were: a text for NULL that a value could read ' +
      'like. Nothing was written.',
    exitStatus: 2,
  },
  TM2082: {
    title: 'the server did not give all rows',
    manual:
      'The query or the table could not be read to its end; the message has what the server ' +
      'says. With row-level security that would hide rows the dump is refused, unless --enable- ' +
      'row-security asks for those that the role may see. Nothing is listed, and what was ' +
      'written so far was removed.',
    exitStatus: 1,
  },
  TM2083: {
    title: 'the rows of a dump cannot be loaded there',
    manual:
      'Before rows are sent the table is compared with the dump: whether it is there, has the ' +
      'columns and (binary) their types, is empty, is not the one that was dumped. All that ' +
      'stands against the load is told at once. Nothing was changed.',
    exitStatus: 1,
  },
  TM2084: {
    title: 'the server refused rows of a dump',
    manual:
      'The message has what the server says, with the line and the column. Rows are loaded in ' +
      'one transaction, which was rolled back: the table is as it was.',
    exitStatus: 1,
  },
  TM2085: {
    title: 'fewer rows were loaded than were dumped',
    manual:
      'The server has taken another number of rows than the dump has: a trigger leaves rows ' +
      'out. The transaction was rolled back: the table is as it was.',
    exitStatus: 1,
  },
  TM2086: {
    title: 'it is not known whether rows were loaded',
    manual:
      'The connection was lost while the transaction was committed. Either all rows are in the ' +
      'table or none: look, before the load is run again.',
    exitStatus: 1,
  },
})
