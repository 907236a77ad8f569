/** Transaction ids are numbers modulo 2^32 (TransactionIdPrecedes). */
export function precedes(xid: number, other: number): boolean {
  return ((xid - other) | 0) < 0
}
