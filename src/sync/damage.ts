/** Which failures say that an object is not whole, rather than that it cannot be looked at. */
import { Failure } from '../base/failure.ts'

/** Damage and absence, a disk that cannot give its bytes back (EIO) included. */
export function isDamage(error: unknown): error is Failure {
  if (!(error instanceof Failure)) return false
  if (error.code === 'TM1601' || error.code === 'TM1602') return true
  return error.code === 'TM1501' && error.details?.['systemError'] === 'EIO'
}
