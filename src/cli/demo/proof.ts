/**
 * What the demo claims at its end, decided from what was seen. Pure.
 */
import { type Balance, type CustomersSeen, isBalanced } from './bank.ts'
import type { LivingState } from './demo-server.ts'

export interface Evidence {
  readonly customersBefore: CustomersSeen
  readonly customersInCopy: CustomersSeen
  readonly copy: Balance
  readonly living: Balance
  readonly livingBefore: LivingState
  readonly livingAfter: LivingState
  /** Transfers that were acknowledged before the accident began. */
  readonly acknowledged: number
  readonly droppedAt: Date
}

export interface Claim {
  readonly name: string
  readonly holds: boolean
  readonly text: string
}

export function judgeEvidence(evidence: Evidence): Claim[] {
  return [
    judgeTable(evidence),
    judgeBalance(evidence),
    judgeMoment(evidence),
    judgeLiving(evidence),
  ]
}

const number = (value: number) => value.toLocaleString('en-US')

function claim(name: string, holds: boolean, kept: string, broken: string): Claim {
  return { name, holds, text: holds ? kept : broken }
}

function judgeTable({ customersBefore, customersInCopy }: Evidence): Claim {
  const { count, checksum } = customersInCopy
  return claim(
    'tableIsBack',
    customersBefore.count === count && customersBefore.checksum === checksum,
    `The table customers is back in the copy: ${number(count)} rows, with the same checksum as before the accident.`,
    `The table customers has ${number(count)} rows instead of ${number(customersBefore.count)}, or other content.`,
  )
}

function judgeBalance({ copy }: Evidence): Claim {
  const { branches, tellers, accounts, history } = copy
  return claim(
    'balanceHolds',
    isBalanced(copy),
    `The books balance: branches, tellers, accounts and history all sum up to ${number(Number(branches))}. No transfer is lost, doubled or torn.`,
    `The books do not balance: ${branches}, ${tellers}, ${accounts}, ${history}.`,
  )
}

/** A transfer notes its time before it commits, so none in the copy is younger than the drop. */
function judgeMoment({ copy, acknowledged, droppedAt }: Evidence): Claim {
  const gapMs = droppedAt.getTime() - copy.newest.getTime()
  const [held, expected] = [number(copy.transactions), number(acknowledged)]
  return claim(
    'momentIsRight',
    gapMs >= 0 && copy.transactions >= acknowledged,
    `It is the moment just before: the newest of ${held} transfers in the copy is ${gapMs} ms older than the end of the accident, and all ${expected} that were acknowledged before it are there.`,
    `It is another moment: ${held} transfers, at least ${expected} expected, the newest ${gapMs} ms before the accident.`,
  )
}

function judgeLiving({ copy, living, livingBefore, livingAfter }: Evidence): Claim {
  const holds =
    livingAfter.startedAt === livingBefore.startedAt &&
    livingAfter.timeline === livingBefore.timeline &&
    livingAfter.failedPushes === livingBefore.failedPushes &&
    livingAfter.customers === null &&
    isBalanced(living) &&
    living.transactions > copy.transactions
  const more = number(living.transactions - copy.transactions)
  return claim(
    'livingServerUntouched',
    holds,
    `The living server never noticed: same process, same timeline, no failed archiving, and ${more} more transfers since the accident (it still lacks the table, of course).`,
    `The living server was disturbed: ${JSON.stringify({ livingBefore, livingAfter, more })}.`,
  )
}
