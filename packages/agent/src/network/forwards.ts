// The ways from this host into the guests' networks and to its machines' screens, as an actor: each is kept while somebody asks
// for it, or, a lasting one, while the cluster's map has it here; and a network's gateway while one leads through it.

import type { ForwardReport, MapForward, OpenForward, OpenScreen } from '@stellwerk/protocol/messages/forward.ts'
import type { ActorSystem } from '@stellwerk/runtime/actors/actor-system.ts'
import type { ActorContext, Behavior, Message } from '@stellwerk/runtime/actors/message.ts'
import type { ByteStream, Environment } from '@stellwerk/runtime/environment.ts'
import { describeError, StellwerkError } from '@stellwerk/runtime/errors.ts'
import { removeMachines, type StartedProgram, type StartProgram } from '../hypervisor/qemu/qemu-process.ts'
import { GATEWAYS, Gateway, type Listening } from './gateway.ts'
import { FORWARD_ADDRESS, type LastingForward, LastingForwards } from './lasting-forwards.ts'
import { relayScreen } from './screen-relay.ts'
import type { VirtualSwitch } from './virtual-switch.ts'

/** Of one host at once, those that are asked for. */
const FORWARDS_MAX = 256
const LOOK_MS = 1_000

type Kept = Pick<OpenForward, 'forward' | 'keepMs'>

interface Way {
  readonly listening: Listening
  /** Null: it leads through none. */
  readonly gateway: string | null
  close(): Promise<void>
}

interface KeptWay extends Way {
  /** Without an end: a lasting one. */
  until: number
}

export interface ForwardsOptions {
  readonly env: Environment
  readonly system: ActorSystem
  readonly host: string
  readonly start: StartProgram
  readonly network: VirtualSwitch
  /** Rejects when no machine of that VM with a screen is here. */
  readonly dialScreen: (vm: string) => Promise<ByteStream>
  /** Where lasting forwards listen that name no address; absent: loopback. */
  readonly address?: string | undefined
  /** How a lasting forward fares has changed. */
  readonly onChange: () => void
}

export class Forwards implements Behavior {
  readonly #options: ForwardsOptions
  readonly #forwards = new Map<string, KeptWay>()
  /** By network and address. */
  readonly #gateways = new Map<string, Promise<Gateway>>()
  #count = 0
  #looking = false
  #isOver = false
  readonly #programs = new Set<StartedProgram>()
  /** One order after the other: each finds what the one before has made. */
  #work: Promise<unknown> = Promise.resolve()
  readonly #lasting: LastingForwards
  #context: ActorContext | null = null

  constructor(options: ForwardsOptions) {
    this.#options = options
    const { env, host, address = FORWARD_ADDRESS, onChange } = options
    this.#lasting = new LastingForwards({
      ...{ host, address, onChange, now: () => env.clock.now() },
      ways: {
        has: key => this.#forwards.has(key),
        open: async (key, forward) => {
          const way = await this.#openForward(forward)
          this.#forwards.set(key, { ...way, until: Number.POSITIVE_INFINITY })
        },
        close: key => this.#close(key),
      },
      warn: (facts, message) => env.log.warn(facts, message),
    })
  }

  started(context: ActorContext): void {
    this.#context = context
  }

  /** Lasting ones, as the map has them. */
  follow(forwards: readonly MapForward[]): void {
    if (!this.#lasting.follow(forwards) || this.#context === null) return
    this.#lookNow(this.#context)
  }

  /** How lasting ones fare that are to be open here. */
  get reports(): ForwardReport[] {
    return this.#lasting.reports
  }

  receive(message: Message, context: ActorContext): void {
    const { system } = this.#options
    const answer = (work: () => Promise<unknown>): void => {
      this.#work = this.#work
        .then(work)
        .then(
          reply => system.reply(message, reply),
          (error: unknown) => system.fail(message, error),
        )
        .then(() => this.#lookLater(context))
    }
    switch (message.kind) {
      case 'forward.open': {
        const wanted = message.body as OpenForward
        this.#stillWanted(wanted)
        answer(() => this.#keep(wanted, () => this.#openForward(wanted)))
        return
      }
      case 'forward.screen': {
        const wanted = message.body as OpenScreen
        this.#stillWanted(wanted)
        answer(() => this.#keep(wanted, () => this.#openScreen(wanted)))
        return
      }
      case 'forward.close':
        answer(async () => {
          await this.#close((message.body as { forward: string }).forward)
          return {}
        })
        return
      case 'forwards.look':
        this.#looking = false
        this.#lookNow(context)
        return
      default:
        if (message.re !== undefined) return
        context.fail(message, new StellwerkError('unknown-kind', `forwards do not take ${message.kind}`))
    }
  }

  /** With the agent's end, which waits for none of them: the guardian sees to what is left of gateways. */
  stop(): void {
    this.#isOver = true
    for (const program of this.#programs) program.kill()
    for (const way of this.#forwards.values()) if (way.gateway === null) this.#closeSoon(way)
  }

  #closeSoon(way: Way): void {
    const { log } = this.#options.env
    way.close().catch((error: unknown) => log.warn({ why: describeError(error) }, 'a way was not closed'))
  }

  #lookNow(context: ActorContext): void {
    const { log } = this.#options.env
    this.#work = this.#work
      .then(() => this.#look())
      .catch((error: unknown) => log.warn({ why: describeError(error) }, 'a forward was not ended'))
      .then(() => this.#lookLater(context))
  }

  #lookLater(context: ActorContext): void {
    const nothing = this.#forwards.size === 0 && this.#gateways.size === 0 && !this.#lasting.any
    if (this.#looking || this.#isOver || nothing) return
    this.#looking = true
    context.after(LOOK_MS, 'forwards.look', null)
  }

  /** At once: what an order waits for may take longer than its way is kept. */
  #stillWanted({ forward, keepMs }: Kept): KeptWay | null {
    const known = this.#forwards.get(forward)
    if (known === undefined) return null
    known.until = this.#options.env.clock.now() + keepMs
    return known
  }

  async #keep(wanted: Kept, open: () => Promise<Way>): Promise<Listening> {
    if (this.#isOver) throw new StellwerkError('stopping', 'the agent ends')
    const known = this.#stillWanted(wanted)
    if (known !== null) return known.listening
    const asked = [...this.#forwards.values()].filter(({ until }) => Number.isFinite(until))
    if (asked.length >= FORWARDS_MAX) {
      throw new StellwerkError('busy', `this host keeps ${FORWARDS_MAX} forwards already`, { hint: 'end one of them' })
    }
    const way = await open()
    this.#forwards.set(wanted.forward, { ...way, until: this.#options.env.clock.now() + wanted.keepMs })
    return way.listening
  }

  async #openForward(wanted: LastingForward): Promise<Way> {
    const gateway = gatewayOf(wanted)
    const through = await this.#gateway(gateway, wanted)
    const { host, port } = wanted.listen
    const listening = { host, port: port === 0 ? await this.#freePort(host) : port }
    await through.forward(listening, wanted.guest, wanted.guestPort)
    return { listening, gateway, close: () => through.unforward(listening) }
  }

  async #openScreen({ vm, listen }: OpenScreen): Promise<Way> {
    const { env, dialScreen } = this.#options
    const relay = await relayScreen({ env, vm, listen, dial: () => dialScreen(vm) })
    return { listening: relay.listening, gateway: null, close: () => relay.close() }
  }

  #gateway(key: string, { network, gateway: address, bits }: LastingForward): Promise<Gateway> {
    const known = this.#gateways.get(key)
    if (known !== undefined) return known
    const { env, network: virtualSwitch } = this.#options
    let program: StartedProgram | null = null
    const start: StartProgram = async (vm, spec) => {
      program = await this.#options.start(vm, spec)
      this.#programs.add(program)
      if (this.#isOver) program.kill()
      return program
    }
    const owner = `gateway/${network}`
    const port = virtualSwitch.port({ network, mac: null, addresses: [], placementEpoch: 0, owner })
    const directory = `${GATEWAYS}/${++this.#count}`
    const spec = { network, address, bits }
    // Where there is no gateway, what is there is left of a dead predecessor's.
    const leftovers = this.#gateways.size === 0 ? removeMachines(env, GATEWAYS) : Promise.resolve()
    const begun = leftovers.then(() => Gateway.start({ env, start, port, directory, spec }))
    this.#gateways.set(key, begun)
    const forget = (): void => {
      if (program !== null) this.#programs.delete(program)
      if (this.#gateways.get(key) === begun) this.#gateways.delete(key)
      for (const [id, forward] of this.#forwards) if (forward.gateway === key) this.#forwards.delete(id)
    }
    // Whoever wanted it hears why; asked again, it is begun anew.
    begun.then(started => void started.gone.then(forget, forget), forget)
    return begun
  }

  /** Free a moment ago: QEMU does not say which one it took. */
  async #freePort(host: string): Promise<number> {
    const { network } = this.#options.env
    const listener = await network.listenStream({ network: 'cluster', host, port: 0 }, stream => stream.destroy())
    await listener.close()
    return listener.address.port
  }

  async #close(id: string): Promise<void> {
    const forward = this.#forwards.get(id)
    if (forward === undefined) return
    this.#forwards.delete(id)
    await forward.close()
  }

  /** Ends what nobody has asked for again, and gateways that nothing leads through; sees to lasting ones. */
  async #look(): Promise<void> {
    const now = this.#options.env.clock.now()
    for (const [id, { until }] of this.#forwards) if (until <= now) await this.#close(id)
    if (this.#isOver) return
    await this.#lasting.settle()
    for (const [key, gateway] of this.#gateways) {
      if ([...this.#forwards.values()].some(forward => forward.gateway === key)) continue
      if (this.#lasting.needs(forward => gatewayOf(forward) === key)) continue
      this.#gateways.delete(key)
      await (await gateway).stop()
    }
  }
}

function gatewayOf({ network, gateway, bits }: LastingForward): string {
  return `${network} ${gateway}/${bits}`
}
