/** Why a journal cannot go on. */
import { Failure } from '../base/failure.ts'

export function removedJournal(key: string, url: string): Failure {
  return new Failure('TM1440', {
    message: `the tail ${key} was removed while it was written`,
    because: `${url} has no such object any more; what was written since is not acknowledged`,
    fix: 'find out what removes objects of this repository; the receiver writes them again',
    details: { key, url },
  })
}
