/**
 * Macs that are network namespaces: Thunderbolt ports are ends of veth pairs in a real bridge, and what `ifconfig` would
 * change is changed with iproute2. Says what a Mac would say. Needs root and iproute2; the host's network is not touched.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { ThunderboltDoors } from '../../agent/thunderbolt/configure.ts'
import { linkRecordFile } from '../../agent/thunderbolt/record.ts'
import { netmaskOf, parseCidr } from '../../src/lib/ipv4.ts'
import type { Cabling } from './fakemac.ts'
import { MACBOOK, profileOf, recordedText } from './fakemac.ts'

const execute = promisify(execFile)
const ip = async (...args: readonly string[]): Promise<string> => (await execute('ip', args)).stdout

interface Found {
  readonly ifname: string
  readonly flags: readonly string[]
  readonly master?: string
  readonly addr_info: readonly { readonly family: string; readonly local: string; readonly prefixlen: number }[]
}

const PORTS = ['en1', 'en2', 'en3'] as const
const BRIDGE = 'bridge0'

export class NetMac {
  readonly name: string
  readonly doors: ThunderboltDoors
  readonly #dir = mkdtempSync(join(tmpdir(), 'mctl-netmac-'))
  #cabling: Record<number, { own: string; peer?: string }>
  /** Given as macOS gives it to the bridge. */
  readonly #self: string

  private constructor(name: string, index: number) {
    this.name = name
    this.#self = `169.254.${index + 1}.1/16`
    this.#cabling = { 1: { own: `${name}-1` }, 2: { own: `${name}-2` }, 3: { own: `${name}-3` } }
    this.doors = {
      runText: (command, args) => this.#say(command, args),
      change: async (argv) => {
        try {
          await this.#change(argv)
          return { code: 0, output: '' }
        } catch (error) {
          return { code: 1, output: (error as Error).message }
        }
      },
      record: linkRecordFile(this.#dir),
    }
  }

  static async make(name: string, index: number): Promise<NetMac> {
    const mac = new NetMac(name, index)
    await ip('netns', 'add', mac.space)
    await mac.ip('link', 'set', 'lo', 'up')
    await mac.ip('link', 'add', BRIDGE, 'type', 'bridge')
    await mac.ip('address', 'add', mac.#self, 'dev', BRIDGE)
    await mac.ip('link', 'set', BRIDGE, 'up')
    return mac
  }

  get space(): string {
    return `mctl-${process.pid}-tb-${this.name}`
  }

  ip(...args: readonly string[]): Promise<string> {
    return ip('-n', this.space, ...args)
  }

  /** A cable between two receptacles; macOS puts both ends into the bridges. */
  async plug(receptacle: number, other: NetMac, otherReceptacle: number): Promise<void> {
    const [own, peer] = [`en${receptacle}`, `en${otherReceptacle}`]
    await this.ip('link', 'add', own, 'type', 'veth', 'peer', 'name', peer, 'netns', other.space)
    for (const [mac, device] of [
      [this, own],
      [other, peer],
    ] as const)
      await mac.ip('link', 'set', device, 'master', BRIDGE, 'up')
    this.#cabling[receptacle] = { own: `${this.name}-${receptacle}`, peer: `${other.name}-${otherReceptacle}` }
    other.#cabling[otherReceptacle] = { own: `${other.name}-${otherReceptacle}`, peer: `${this.name}-${receptacle}` }
  }

  /** Whether a connection from the address comes to the other Mac's address. */
  async reaches(address: string, other: NetMac, peerAddress: string): Promise<boolean> {
    const program = `
import socket, sys, threading
server = socket.create_server(('${peerAddress}', 4711))
print('listening', flush=True)
server.settimeout(4)
connection, who = server.accept()
print(who[0], flush=True)`
    const listener = execute('ip', ['netns', 'exec', other.space, 'python3', '-c', program])
    const connect = `
import socket, time
for _ in range(15):
    try:
        socket.create_connection(('${peerAddress}', 4711), 2, ('${address}', 0))
        break
    except ConnectionRefusedError:
        time.sleep(0.2)`
    const [heard] = await Promise.allSettled([
      listener,
      execute('ip', ['netns', 'exec', this.space, 'python3', '-c', connect]),
    ])
    return heard.status === 'fulfilled' && heard.value.stdout.endsWith(`${address}\n`)
  }

  async end(): Promise<void> {
    await ip('netns', 'delete', this.space).catch(() => '')
    rmSync(this.#dir, { recursive: true, force: true })
  }

  async #found(): Promise<readonly Found[]> {
    return JSON.parse(await this.ip('-j', 'address')) as readonly Found[]
  }

  async #say(command: string, args: readonly string[]): Promise<string | undefined> {
    if (command === 'networksetup') return recordedText(MACBOOK.setup)
    if (command === 'system_profiler') return profileOf(this.#cabling as Cabling)
    if (command === 'sysctl') return args[0] === 'kern.bootsessionuuid' ? 'kern.bootsessionuuid: boot-1\n' : undefined
    const found = await this.#found()
    // Ports without a cable are there on a Mac, too.
    const missing = PORTS.filter((port) => !found.some(({ ifname }) => ifname === port))
    return [...found, ...missing.map((ifname): Found => ({ ifname, flags: [], addr_info: [] }))]
      .map((each) => block(each, found))
      .join('')
  }

  async #change([, name = '', verb = '', ...rest]: readonly string[]): Promise<void> {
    const [word = '', , mask = ''] = rest
    if (verb === 'deletem') await this.ip('link', 'set', word, 'nomaster')
    else if (verb === 'addm') await this.ip('link', 'set', word, 'master', name)
    else if (verb === 'up' || verb === 'down') await this.ip('link', 'set', name, verb)
    else if (rest[1] === '-alias') await this.ip('address', 'delete', `${word}/30`, 'dev', name)
    else {
      if (mask !== netmaskOf(30)) throw new Error(`bug of the test: ${mask}`)
      await this.ip('address', 'add', `${word}/30`, 'dev', name)
    }
  }
}

/** As `ifconfig -a` of macOS says it. */
function block({ ifname, flags, addr_info: addresses }: Found, all: readonly Found[]): string {
  const lines = addresses
    .filter(({ family }) => family === 'inet')
    .map(({ local, prefixlen }) => {
      const { length } = parseCidr(`${local}/${prefixlen}`) ?? { length: 32 }
      return `\tinet ${local} netmask 0x${(2 ** 32 - 2 ** (32 - length)).toString(16)} broadcast 0.0.0.0\n`
    })
  const members = all
    .filter(({ master }) => master === ifname)
    .map((port) => `\tmember: ${port.ifname} flags=3<LEARNING,DISCOVER>\n`)
  const name = ifname === 'lo' ? 'lo0' : ifname
  return `${name}: flags=8863<${flags.includes('UP') ? 'UP,' : ''}BROADCAST> mtu 1500\n${lines.join('')}${members.join('')}\tstatus: active\n`
}
