/**
 * Several actors over one storage, one call at a time, in an order that a seed decides: as if
 * their processes were stopped and continued at any call. Every call has its whole effect in
 * its turn.
 */
import { ForwardingStorage } from '../../src/storage/forwarding-storage.ts'
import {
  keysOfListing,
  type ObjectWriter,
  type Storage,
  type StoredObject,
  type WriteOptions,
} from '../../src/storage/storage.ts'
import { collect } from './faulty-storage.ts'
import { randomOf } from './hand-made-backup.ts'

export interface Actor {
  readonly name: string
  run(storage: Storage): Promise<unknown>
  /** After so many calls it is stopped until all others have ended; or for ever. */
  readonly stopAt?: number
  /** It goes on when the others have made so many calls meanwhile. */
  readonly stopFor?: number
  readonly isKilled?: boolean
}

export interface ActorOutcome {
  readonly name: string
  /** Undefined: it was killed. */
  readonly result: PromiseSettledResult<unknown> | undefined
}

/** `look` is called after every call. */
export async function interleave(
  inner: Storage,
  actors: readonly Actor[],
  seed: number,
  look: (call: string) => void,
): Promise<ActorOutcome[]> {
  const schedule = new Schedule(seed, look)
  const players = actors.map((actor) => schedule.start(actor, inner))
  await schedule.finished
  await schedule.bury()
  if (schedule.problem !== undefined) throw schedule.problem
  return players.map(({ actor, outcome }) => ({ name: actor.name, result: outcome }))
}

interface Turn {
  play(): Promise<void>
  refuse(): void
}

interface Player {
  readonly actor: Actor
  readonly waiting: Turn[]
  settled: Promise<void>
  calls: number
  /** Calls of all when it was stopped. */
  stoppedSince: number | undefined
  outcome: PromiseSettledResult<unknown> | undefined
}

class Schedule {
  readonly #random: (below: number) => number
  readonly #look: (call: string) => void
  readonly #players: Player[] = []
  readonly finished: Promise<void>
  #finish: () => void = () => {}
  #busy = false
  #isOver = false
  #total = 0
  readonly #calls: string[] = []
  /** The first that was seen to be wrong, with the calls up to it. */
  problem: Error | undefined
  #current: Player | undefined
  /** Calls that the current player may go on with. */
  #burst = 0

  constructor(seed: number, look: (call: string) => void) {
    this.#random = randomOf(seed)
    this.#look = look
    this.finished = new Promise((resolve) => {
      this.#finish = resolve
    })
  }

  /** So that nothing of the killed is left in this process: they have no effect any more. */
  async bury(): Promise<void> {
    this.#isOver = true
    for (const player of this.#players.filter(({ outcome }) => outcome === undefined)) {
      for (const turn of player.waiting.splice(0)) turn.refuse()
      await player.settled
      player.outcome = undefined
    }
  }

  start(actor: Actor, inner: Storage): Player {
    const player: Player = {
      actor,
      waiting: [],
      calls: 0,
      stoppedSince: undefined,
      outcome: undefined,
      settled: Promise.resolve(),
    }
    this.#players.push(player)
    const storage = new GatedStorage(inner, async (name, act) => {
      return await this.#turn(player, name, act)
    })
    const settle = (outcome: PromiseSettledResult<unknown>): void => {
      player.outcome = outcome
      this.#next()
    }
    player.settled = Promise.resolve()
      .then(async () => await actor.run(storage))
      .then(
        (value) => settle({ status: 'fulfilled', value }),
        (reason: unknown) => settle({ status: 'rejected', reason }),
      )
    return player
  }

  async #turn<T>(player: Player, name: string, act: () => Promise<T>): Promise<T> {
    if (this.#isOver) throw new Error('killed')
    return await new Promise<T>((resolve, reject) => {
      const play = async (): Promise<void> => {
        try {
          resolve(await act())
        } catch (error) {
          reject(error)
        }
        this.#observe(`${player.actor.name}: ${name}`)
      }
      player.waiting.push({ play, refuse: () => reject(new Error('killed')) })
      this.#next()
    })
  }

  /** A call is made when everybody who runs waits for a turn. */
  #next(): void {
    setImmediate(() => {
      if (this.#busy) return
      const running = this.#players.filter((one) => {
        return one.outcome === undefined && !this.#isStopped(one)
      })
      if (running.length === 0) return this.#wakeUp()
      if (running.some(({ waiting }) => waiting.length === 0)) return
      void this.#play(this.#choose(running))
    })
  }

  #observe(call: string): void {
    this.#calls.push(call)
    try {
      this.#look(call)
    } catch (error) {
      this.problem ??= new Error(`after ${this.#calls.join('\n')}`, { cause: error })
    }
  }

  #isStopped(player: Player): boolean {
    const { stopAt = Number.POSITIVE_INFINITY, stopFor = Number.POSITIVE_INFINITY } = player.actor
    if (player.calls < stopAt) return false
    player.stoppedSince ??= this.#total
    return this.#total - player.stoppedSince < stopFor
  }

  #choose(running: readonly Player[]): Player {
    const { length } = running
    if (this.#current !== undefined && running.includes(this.#current) && this.#burst-- > 0) {
      return this.#current
    }
    this.#burst = [0, 0, 3, 20, 400][this.#random(5)] ?? 0
    this.#current = running[this.#random(length)] as Player
    return this.#current
  }

  async #play(player: Player): Promise<void> {
    this.#busy = true
    player.calls++
    this.#total++
    const [call] = player.waiting.splice(this.#random(player.waiting.length), 1)
    await call?.play()
    this.#busy = false
    this.#next()
  }

  /** Everybody else has ended: those that were stopped go on, the killed never do. */
  #wakeUp(): void {
    const stopped = this.#players.filter((one) => one.outcome === undefined)
    const living = stopped.filter(({ actor }) => actor.isKilled !== true)
    if (living.length === 0) this.#finish()
    for (const player of living) player.calls = Number.NEGATIVE_INFINITY
    if (living.length > 0) this.#next()
  }
}

type TakeTurn = <T>(name: string, act: () => Promise<T>) => Promise<T>

class GatedStorage extends ForwardingStorage {
  readonly #turn: TakeTurn

  constructor(inner: Storage, turn: TakeTurn) {
    super(inner)
    this.#turn = turn
  }

  override async read(key: string) {
    return await this.#turn(`read ${key}`, async () => await super.read(key))
  }

  override async readRange(key: string, offset: number, length: number, into?: Uint8Array) {
    const name = `readRange ${key}`
    return await this.#turn(name, async () => await super.readRange(key, offset, length, into))
  }

  override async size(key: string) {
    return await this.#turn(`size ${key}`, async () => await super.size(key))
  }

  override list(prefix: string, after?: string): AsyncIterable<StoredObject> {
    return this.#list(prefix, after)
  }

  override listKeys(prefix: string, after?: string): AsyncIterable<readonly string[]> {
    return keysOfListing(this.list(prefix, after))
  }

  async *#list(prefix: string, after?: string): AsyncGenerator<StoredObject> {
    yield* await this.#turn(`list ${prefix}`, async () => await collect(super.list(prefix, after)))
  }

  override async write(key: string, bytes: Uint8Array, options?: WriteOptions) {
    await this.#turn(`write ${key}`, async () => await super.write(key, bytes, options))
  }

  override async openWriter(key: string): Promise<ObjectWriter> {
    const writer = await super.openWriter(key)
    const commit = async () => await this.#turn(`commit ${key}`, async () => await writer.commit())
    return { append: (pieces) => writer.append(pieces), commit, abort: async () => writer.abort() }
  }

  override async remove(key: string) {
    await this.#turn(`remove ${key}`, async () => await super.remove(key))
  }

  /** One turn for each: a batch that is stopped in its middle has removed a part. */
  override async removeMany(keys: readonly string[]) {
    for (const key of keys) await this.remove(key)
  }
}
