/** Failure codes 16xx: damage. */
import { entry } from './entry.ts'

export const DAMAGE_CODES = entry({
  TM1601: {
    title: 'an object of the repository is damaged',
    manual:
      'A stored object is there but its bytes are not those that were written: its hash or its ' +
      'structure does not hold. The message names the object.',
    exitStatus: 1,
  },
  TM1602: {
    title: 'an object of the repository is missing',
    manual: 'A backup record or page map names an object that the repository does not hold.',
    exitStatus: 1,
  },
})
