// A container engine for tests: this machine's, or one that is started for the test in a directory of its own, as root. Where no
// image registry is at hand the base image is made from Debian's packages, this project's node and this machine's npm.

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const BASE = 'node:24-bookworm-slim'
const START_MS = 60_000
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

export class Engine {
  readonly #directory = mkdtempSync(join(tmpdir(), 'engine-'))
  readonly environment: NodeJS.ProcessEnv
  #daemon: ChildProcess | null = null

  constructor(project: string, variables: { readonly [name: string]: string } = {}) {
    const host = process.env['DOCKER_HOST'] ?? `unix://${this.#directory}/docker.sock`
    const ours = { DOCKER_HOST: host, COMPOSE_PROJECT_NAME: project, STELLWERK_API_PORT: '0' }
    this.environment = { ...process.env, ...ours, ...variables }
  }

  async start(): Promise<void> {
    if (process.env['DOCKER_HOST'] === undefined) {
      const own = (name: string): string => join(this.#directory, name)
      const places = ['--data-root', own('data'), '--exec-root', own('exec'), '--pidfile', own('pid')]
      const words = ['--storage-driver=overlay2', ...places, '-H', `unix://${own('docker.sock')}`]
      this.#daemon = spawn('dockerd', words, { stdio: 'ignore' })
    }
    for (const until = Date.now() + START_MS; this.try('docker', 'info').code !== 0; ) {
      if (Date.now() > until) throw new Error(`no container engine after ${START_MS / 1000} s`)
      await new Promise(resolve => setTimeout(resolve, 300))
    }
    if (this.try('docker', 'image', 'inspect', BASE).code === 0 || this.try('docker', 'pull', BASE).code === 0) return
    this.#makeBase()
  }

  /** Rejects nothing: what it said and how it ended. */
  try(program: string, ...words: string[]): { readonly code: number | null; readonly output: string } {
    const { status, stdout, stderr } = spawnSync(program, words, { cwd: ROOT, env: this.environment, encoding: 'utf8' })
    return { code: status, output: `${stdout ?? ''}${stderr ?? ''}` }
  }

  run(program: string, ...words: string[]): string {
    const { code, output } = this.try(program, ...words)
    if (code !== 0) throw new Error(`${program} ${words.join(' ')} ended with ${code}: ${output.slice(-2_000)}`)
    return output
  }

  compose(...words: string[]): string {
    return this.run('docker-compose', ...words)
  }

  async stop(): Promise<void> {
    const daemon = this.#daemon
    if (daemon !== null && daemon.exitCode === null) {
      const ended = new Promise(resolve => daemon.once('exit', resolve))
      daemon.kill()
      await ended
    }
    rmSync(this.#directory, { recursive: true, force: true })
  }

  #makeBase(): void {
    const root = join(this.#directory, 'base')
    this.run('debootstrap', '--variant=minbase', 'bookworm', root, 'http://deb.debian.org/debian')
    copyFileSync(realpathSync(join(ROOT, 'node_modules', 'node', 'bin', 'node')), join(root, 'usr/local/bin/node'))
    const npm = dirname(dirname(realpathSync(execFileSync('which', ['npm'], { encoding: 'utf8' }).trim())))
    mkdirSync(join(root, 'usr/local/lib/node_modules'), { recursive: true })
    cpSync(npm, join(root, 'usr/local/lib/node_modules/npm'), { recursive: true })
    symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(root, 'usr/local/bin/npm'))
    if (existsSync(CERTIFICATES)) {
      mkdirSync(join(root, 'etc/ssl/certs'), { recursive: true })
      copyFileSync(CERTIFICATES, join(root, CERTIFICATES))
    }
    const certificates = `ENV NODE_EXTRA_CA_CERTS=${CERTIFICATES}`
    this.run('sh', '-c', `tar -C '${root}' -c . | docker import -c '${certificates}' -c 'CMD ["node"]' - ${BASE}`)
    rmSync(root, { recursive: true, force: true })
  }
}
