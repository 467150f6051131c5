/** Of what happens again and again the first, second, fourth … time is told: it neither stays unknown nor fills the log. */
export function isTold(count: number): boolean {
  return (count & (count - 1)) === 0
}
