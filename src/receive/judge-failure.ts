/** Which failures end a receiver, and which are tried again. Pure. */
import type { Failure } from '../base/failure.ts'

/** Other content, other WAL than before, another past: nothing that time heals. */
const CONTRADICTIONS = ['TM1402', 'TM1404', 'TM1410', 'TM1442', 'TM1460']

/** No other attempt can heal these, and going on could do harm. */
const ALWAYS = ['TM1405', 'TM1426', 'TM1427']

/** Wrong set-up, when nothing has worked yet; later a change that someone will mend. */
const AT_START = [
  'TM1102',
  'TM1103',
  'TM1104',
  'TM1105',
  'TM1107',
  'TM1115',
  'TM1116',
  'TM1407',
  'TM1420',
  'TM1421',
  'TM1428',
  'TM1503',
]

export function isFatal(failure: Failure, hasStreamed: boolean): boolean {
  if (contradictsArchive(failure) || ALWAYS.includes(failure.code)) return true
  return !hasStreamed && AT_START.includes(failure.code)
}

export function contradictsArchive({ code }: Failure): boolean {
  return CONTRADICTIONS.includes(code)
}
