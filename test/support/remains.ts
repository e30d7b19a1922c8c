/** What runs, listens and lies about because of one folder: read from /proc and from the disk. Linux only. */
import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { connect } from 'node:net'

/** Pids whose command line or environment names the folder; this process and its zombies do not count. */
export function processesOf(dir: string): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`].some((file) => read(file).includes(dir)))
    .map(Number)
}

/** TCP ports that these processes listen on. */
export function portsOf(pids: readonly number[]): readonly number[] {
  const own = new Set(pids.flatMap(socketsOf))
  return ['/proc/net/tcp', '/proc/net/tcp6']
    .flatMap((file) => read(file).split('\n').slice(1))
    .flatMap((line) => {
      const fields = line.trim().split(/\s+/)
      const [address = '', state, inode = ''] = [fields[1], fields[3], fields[9]]
      return state === LISTEN && own.has(inode) ? [parseInt(address.slice(address.lastIndexOf(':') + 1), 16)] : []
    })
}

const LISTEN = '0A'

function socketsOf(pid: number): readonly string[] {
  const dir = `/proc/${pid}/fd`
  try {
    return readdirSync(dir).flatMap((fd) => /^socket:\[(\d+)\]$/.exec(link(`${dir}/${fd}`))?.[1] ?? [])
  } catch {
    return []
  }
}

/** Whether somebody accepts connections there. */
export const isOpen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    const end = (open: boolean) => {
      socket.destroy()
      resolve(open)
    }
    socket.once('connect', () => end(true)).once('error', () => end(false))
  })

/** A process may end while it is looked at. */
function read(file: string): string {
  try {
    return readFileSync(file, 'latin1')
  } catch {
    return ''
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}
