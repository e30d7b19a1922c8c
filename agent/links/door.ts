/**
 * The measuring door: a node of the cluster asks here for a port on the link that is to be measured, and gets one with a
 * ticket for one connection. The bytes themselves are zeros in the clear, for encrypting them would measure the
 * processor; nobody without a ticket is listened to, and nothing is open but while somebody measures.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { timingSafeEqual } from 'node:crypto'
import type { Clock, Random } from '../../src/lib/clock.ts'
import type { Logger } from '../../src/lib/log.ts'
import { openNodesDoor } from '../doorserver.ts'
import type { OpenDoor } from '../doorserver.ts'
import type { Members } from '../members.ts'
import { messageOf } from '../../src/lib/errors.ts'
import type { LinkBench } from './bench.ts'
import { Yielded } from './bench.ts'
import { receive, send } from './streams.ts'

/** Echo: comes back; Sink: is taken, and the rate told; Source: is sent. */
export const measuringKinds = ['echo', 'sink', 'source'] as const
export type MeasuringKind = (typeof measuringKinds)[number]

export interface Admission {
  readonly port: number
  readonly ticket: string
}

export interface MeasuringDoorOptions {
  readonly credentialsFile?: string | undefined
  /** Whose certificates count. */
  readonly members: Members
  /** Engines run here: their links are not disturbed. */
  readonly isServing: () => boolean
  /** Absent: no engine here measures links. */
  readonly bench?: LinkBench | undefined
  /** Addresses of this machine: on no other is listened. */
  readonly ownAddresses: () => readonly string[]
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

export const TICKET_BYTES = 36
/** For the connection to come, and for all that it does. */
const OPEN_MS = 5_000

/** Opens the door on a port of the system's choice. */
export async function openMeasuringDoor(options: MeasuringDoorOptions): Promise<OpenDoor> {
  const open = new Set<Server>()
  const door = await openNodesDoor({ ...options, name: 'measuring' }, (request, response) => {
    void answer(options, open, request, response)
  })
  return {
    port: door.port,
    close: () => {
      for (const listener of open) listener.close()
      return door.close()
    },
  }
}

async function answer(
  options: MeasuringDoorOptions,
  open: Set<Server>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const refuse = (status: number, why: string) => void response.writeHead(status).end(why)
  const { pathname, searchParams } = new URL(request.url ?? '', 'http://door')
  const kind = measuringKinds.find((known) => pathname === `/v1/measure/${known}`)
  const address = searchParams.get('address') ?? ''
  const isRank = pathname === '/v1/measure/rank'
  if (kind === undefined && !isRank) return refuse(404, 'nothing is measured here under that name')
  if (!options.ownAddresses().includes(address)) return refuse(400, `${address} is no address of this node`)
  if (options.isServing()) return refuse(409, 'engines run here')
  if (open.size > 0) return refuse(409, 'another link is being measured')
  if (kind === undefined) return startRank(options, request, response, searchParams)
  try {
    const admission = await admit(options, open, kind, address)
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(admission))
  } catch (error) {
    options.log.info('link not measured', { address, error: (error as Error).message })
    refuse(503, `cannot listen on ${address}`)
  }
}

/**
 * Starts the second rank of a measurement through the engine, which meets the first one where this request came from: a
 * node cannot send our rank to anybody else.
 */
async function startRank(
  { bench, log }: MeasuringDoorOptions,
  request: IncomingMessage,
  response: ServerResponse,
  asked: URLSearchParams,
): Promise<void> {
  const refuse = (status: number, why: string) => void response.writeHead(status).end(why)
  const [address, peerAddress] = [asked.get('address') ?? '', asked.get('peerAddress') ?? '']
  const peerPort = Number(asked.get('peerPort'))
  const from = request.socket.remoteAddress?.replace(/^::ffff:/, '') ?? ''
  if (bench === undefined) return refuse(501, 'no engine here measures links')
  if (from !== peerAddress) return refuse(400, `${peerAddress} reaches this node from ${from}, not over this link`)
  if (!Number.isInteger(peerPort) || peerPort < 1 || peerPort > 65_535) return refuse(400, 'peerPort is no port')
  try {
    const port = await bench.take(address)
    bench
      .run({ rank: 1, address, port, peerAddress, peerPort })
      .finally(() => bench.release())
      .catch((error) => log.info('link not measured through the engine', { peerAddress, error: messageOf(error) }))
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ port }))
  } catch (error) {
    refuse(error instanceof Yielded ? 409 : 503, messageOf(error))
  }
}

/** Listens on the link for the one connection that shows the ticket. */
async function admit(
  { clock, random }: MeasuringDoorOptions,
  open: Set<Server>,
  kind: MeasuringKind,
  address: string,
): Promise<Admission> {
  const ticket = random.uuid()
  const listener = createServer((socket) => {
    const over = clock.after(OPEN_MS, () => socket.destroy())
    socket.on('error', () => socket.destroy()).on('close', () => over.cancel())
    void shown(socket, ticket).then((isShown) => {
      if (!isShown || !open.has(listener)) return socket.destroy()
      close()
      serve(socket, kind, clock)
    })
  })
  const tooLate = clock.after(OPEN_MS, () => close())
  const close = () => {
    tooLate.cancel()
    open.delete(listener)
    listener.close()
  }
  open.add(listener)
  try {
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject)
      listener.listen({ host: address, port: 0, exclusive: true }, resolve)
    })
  } catch (error) {
    close()
    throw error
  }
  return { port: (listener.address() as AddressInfo).port, ticket }
}

/** Nothing but the ticket is sent before we answer. */
function shown(socket: Socket, ticket: string): Promise<boolean> {
  return new Promise((resolve) => {
    let said = Buffer.alloc(0)
    const onData = (chunk: Buffer) => {
      said = Buffer.concat([said, chunk])
      if (said.byteLength < TICKET_BYTES) return
      socket.off('data', onData)
      resolve(said.byteLength === TICKET_BYTES && timingSafeEqual(said, Buffer.from(ticket)))
    }
    socket.on('data', onData).once('close', () => resolve(false))
  })
}

function serve(socket: Socket, kind: MeasuringKind, clock: Clock): void {
  socket.setNoDelay(true)
  // The word to begin.
  if (kind !== 'source') socket.write('.')
  switch (kind) {
    case 'echo':
      return void socket.pipe(socket)
    case 'source':
      return send(socket, clock)
    case 'sink':
      void receive(socket, clock).then((rate) => {
        socket.resume()
        socket.end(String(Math.round(rate ?? 0)))
      })
  }
}
